"""What every fine-tuning run shares: settings, batches by position, steps, checkpoints that go on to the last bit."""
