"""What the folder of a run holds, by name."""

CHECKPOINTS = "checkpoints"
RECORD = "metrics.jsonl"
SETTINGS = "settings.json"
TOKENIZER = "tokenizer.model"  # a copy, where the tokenizer is a file
