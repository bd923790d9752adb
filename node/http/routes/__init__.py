"""Route handlers. Each reads the request, calls one operation and shapes the answer."""
