"""The templates of HTML."""

from __future__ import annotations

import functools

import jinja2


def rendered(template: str, **values: object) -> str:
    """A template with these values in its places.

    Parameters
    ----------
    template : str
        Name of a file in `templates`.
    **values
        Everything that it asks for; one that is missing is an error.
    """
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("trainobs.views", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
