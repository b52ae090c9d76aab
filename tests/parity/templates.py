#!/usr/bin/env python3
"""The second renderer of chat templates: Jinja2, in the environment that transformers makes for them.

Usage: templates.py JOBS.json OUT.json. A job is {"template": SOURCE, "values": {NAME: VALUE, …}}; OUT gets for
each the text, or null where Jinja2 refuses the template or the template raises an exception.
"""

import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

# The day that templates of Llama 3 fall back to. There is no clock in the engine, and none here.
TODAY = datetime.datetime(2024, 7, 26)


def raise_exception(message):
    """As transformers has it."""
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    """As transformers has it: not escaped for HTML, which is what Jinja2's own filter does."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    """As transformers makes it, but for tags that mark what assistants said for training."""
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = TODAY.strftime
    return env


def render(env, job):
    """The text of one job."""
    try:
        return env.from_string(job["template"]).render(**job["values"])
    except (jinja2.exceptions.TemplateError, TypeError, ValueError, ArithmeticError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return None


def main():
    """Renders the jobs."""
    jobs = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    env = environment()
    texts = [render(env, job) for job in jobs]
    pathlib.Path(sys.argv[2]).write_text(json.dumps(texts), encoding="utf-8")


if __name__ == "__main__":
    main()
