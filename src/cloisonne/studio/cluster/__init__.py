"""The server as an application of Ray Serve: several servers that answer, and replicas of each model that draw."""
