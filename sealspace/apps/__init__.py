"""The part of the SDK that grants rights to applications, backends and runners, and calls them."""
