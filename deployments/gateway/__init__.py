"""The HTTP door, for web back ends and other languages: the library's calls, one for one, and nothing else.

`app.py` has the calls, `answers.py` says how errors travel, `bodies.py` bounds what is taken in.
"""

from deployments.gateway.app import create_app

__all__ = ["create_app"]
