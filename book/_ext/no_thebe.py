"""Pages without sphinx-thebe's script: Jupyter Book loads it always and twice, so that every page would report an error to the console."""

from sphinx.application import Sphinx
from sphinx.config import Config


def leave_out(app: Sphinx, config: Config) -> None:
    for listener in list(app.events.listeners.get("env-before-read-docs", [])):
        if getattr(listener.handler, "__name__", "") == "init_thebe_core":
            app.disconnect(listener.id)


def setup(app: Sphinx) -> dict:
    app.connect("config-inited", leave_out, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
