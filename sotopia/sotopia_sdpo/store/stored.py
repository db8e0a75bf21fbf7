"""Read what a store has kept: an episode, a profile or a head out of its text.

Comes in: a text of a database, which others may have changed or a disk may have damaged. Goes out: what it says.
Invariant: a text that cannot be read is one line that names the database and the record.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

from pydantic import ValidationError

from sotopia_sdpo.errors import UserError, first_reason
from sotopia_sdpo.store.base import Profile, ProfileKind
from sotopia_sdpo.store.episode import Episode, EpisodeHead, Status
from sotopia_sdpo.store.keys import EpisodeKey
from sotopia_sdpo.store.profiles import SHAPES


STATUSES = frozenset(get_args(Status))


@contextmanager
def damage_told(place: str, remedy: str) -> Iterator[None]:
    """Raise what is wrong with a stored text as a UserError of one line."""
    try:
        yield
    except UserError:
        raise
    except ValidationError as err:
        raise UserError(f"{place} is damaged ({first_reason(err)}); {remedy}") from err
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as err:
        raise UserError(f"{place} is damaged ({err or type(err).__name__}); {remedy}") from err


def stored_episode(text: Any, url: str, pk: str) -> Episode:
    """Return an episode from its text."""
    with damage_told(f"{url}: episode {pk}", "delete its tag with `sotopia db delete --tag`, or import it again"):
        return Episode.model_validate_json(text)


def stored_profile(text: Any, url: str, kind: ProfileKind, pk: str) -> Profile:
    """Return a profile from its text, as it was written."""
    with damage_told(f"{url}: {kind.removesuffix('s')} {pk}", "import it again with `sotopia db import FILE…`"):
        profile: Profile = json.loads(text)
        SHAPES[kind].model_validate(profile)
        return profile


def head_from(
    pk: str,
    key: tuple[Any, ...],
    status: Any,
    environment: str,
    agents: list[str],
    models: list[str],
    agent_position: int | None,
    source: str | None,
    failure: str,
) -> EpisodeHead:
    """Return a head from its fields, in the order in which both stores write them.

    Raises:
        ValueError, TypeError: if they are none.
    """
    if status not in STATUSES or not isinstance(agents, list) or not isinstance(models, list):
        raise ValueError("its head does not have the fields of one")
    agents_and_models = tuple(agents), tuple(models)
    return EpisodeHead(pk, EpisodeKey(*key), status, environment, *agents_and_models, agent_position, source, failure)
