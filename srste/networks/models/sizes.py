"""The sizes that models are given."""


def check_sizes(owner: object, **sizes: int) -> None:
    """Raises: ValueError: `Owner(size=...)` must be an integer >= 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"`{type(owner).__name__}({name}={size})` must be an integer >= 1")
