"""What every server needs: connections, limits of callers, confined children, supervision."""
