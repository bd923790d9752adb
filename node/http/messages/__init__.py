"""What a route reads from a request and writes into an answer."""
