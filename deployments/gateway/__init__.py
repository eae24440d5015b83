"""The HTTP door, for web back ends and other languages: the library's calls, one for one, and nothing else.

`app.py` has the calls, `events.py` those that follow tasks, `callers.py` says who
calls, `answers.py` how errors travel, `bodies.py` bounds what is taken in.
"""

from deployments.gateway.app import create_app

__all__ = ["create_app"]
