"""Mining: of all frames that a model labelled, those that are worth a person's time."""
