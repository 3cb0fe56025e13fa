"""Train a model from a configuration: ``training.run.train(config)``."""
