"""Train, evaluate and compare the spatiotemporal networks of the R(2+1)D study (Tran et al., CVPR 2018)."""

__version__ = "0.1.0"


class R21DError(Exception):
    """Something a person can mend: the message says which file or key, what was expected and what to do."""
