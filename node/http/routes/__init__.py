"""Route handlers. Each reads the request, calls one operation and returns its response."""
