"""The SDK's side of applications, backends and runners: granting to them and calling them."""
