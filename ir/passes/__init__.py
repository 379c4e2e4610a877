"""The passes: one file each, a frozen dataclass whose fields are its options."""
