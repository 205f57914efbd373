"""What a YAML parser says of a broken file, as one sentence that begins with the place."""

import yaml


def not_yaml(origin: str, error: yaml.YAMLError) -> str:
    """``'merge.yml', line 5, column 15: no YAML: mapping values are not allowed here``; lines and columns count from 1."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"{origin}: no YAML: {' '.join(str(error).split())}"
    mark = error.problem_mark or error.context_mark
    place = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
    since = "" if error.context_mark is None else f" that begins on line {error.context_mark.line + 1}"
    said = ", ".join(part for part in (error.problem, error.context and error.context + since) if part)
    return f"{origin}{place}: no YAML: {' '.join(said.split())}"
