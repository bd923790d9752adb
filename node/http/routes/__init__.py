"""Routes: one resource a module. Each reads the request, calls one operation and shapes the
answer."""
