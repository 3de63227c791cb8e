from tests.networks import seed  # noqa: F401
