"""Settings that an experiment is given for all of its runs: refuse those without effect."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature

from r21d_core import R21DError
from r21d_core.study.spec import Spec
from r21d_core.study.variants import absent_fields


class IgnoredOverrideError(R21DError):
    """A setting names a field that the experiment itself sets."""


def reject_ignored_overrides(experiment: Callable[..., list[Spec]]) -> Callable[..., list[Spec]]:
    """Decorate an experiment to list each Spec once, and to raise IgnoredOverrideError for a setting without effect.

    Of the runs that have such a setting, it must hold in at least one and in all that are trained from scratch;
    finetuned runs have their own recipe.
    """
    parameters = signature(experiment).parameters

    @wraps(experiment)
    def checked(*arguments, **options) -> list[Spec]:
        specs = list(dict.fromkeys(experiment(*arguments, **options)))
        for key in options.keys() - parameters.keys():
            having = [spec for spec in specs if _has_setting(spec, key)]
            value = getattr(having[0].replace(**{key: options[key]}), key) if having else None  # "16" is 16
            holds = [getattr(spec, key) == value for spec in having]
            if not any(holds) or not all(hold or spec.init_from for hold, spec in zip(holds, having, strict=True)):
                values = ", ".join(dict.fromkeys(str(getattr(spec, key)) for spec in specs))
                reason = f"sets {key} itself, to {values}" if having else f"has no run for which {key} can be set"
                raise IgnoredOverrideError(
                    f"{experiment.__name__} {reason}; leave it out of --set, or in a notebook of `settings`"
                )
        return specs

    return checked


def _has_setting(spec: Spec, key: str) -> bool:
    if key == "frame_stride_max":
        return spec.task == "action"
    if key == "frozen_stages" and not spec.init_from:
        return False
    return key not in absent_fields(spec.variant)
