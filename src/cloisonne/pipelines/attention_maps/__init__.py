"""Where each phrase attends, as images."""
