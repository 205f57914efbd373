"""The exceptions we raise on purpose: each names a thing that the user can mend, in one sentence."""


class EvoMergeError(Exception):
    """Something the user can mend; the command line prints it as one sentence and exits with code 2."""


class ConfigError(EvoMergeError):
    """An option that does not exist, has a wrong value, or does not fit another option."""


class ModelError(EvoMergeError):
    """A model that cannot be found, read or trusted.

    Args:
        text: What is wrong.
        mend: What to do about it, where the text does not say.
        finding: What the check of a pool calls it (``docs/check.md``).
    """

    def __init__(self, text: str, mend: str = "", *, finding: str = "unreadable") -> None:
        super().__init__(f"{text}; {mend}" if mend else text)
        self.text, self.mend, self.finding = text, mend, finding


class IncompatibleModelsError(ModelError):
    """Models that cannot be merged with each other; the message lists every refusal."""


class DataError(EvoMergeError):
    """Examples that cannot be found or read, or splits that overlap."""


class RecipeError(EvoMergeError):
    """A recipe that cannot be read or built."""


class StudyError(EvoMergeError):
    """A run folder that cannot be used: in use, of another version, or not what it claims to be."""


class UnusableCandidateError(EvoMergeError):
    """A candidate that cannot be built or scored (weights or logits not finite): worst fitness, and the search goes on."""


class Interrupted(KeyboardInterrupt):
    """The user asked to stop; everything is saved and the run can be resumed.

    A ``KeyboardInterrupt``, so that whoever goes on after an ``Exception``, as Hydra does in a sweep, lets it through.
    """
