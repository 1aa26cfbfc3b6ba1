"""The HTTP applications as plain ASGI: routes, schemas, problems. Knows nothing of Ray Serve."""
