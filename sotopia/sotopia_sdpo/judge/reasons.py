"""Read a judge's reasons back out of the text in which an episode keeps them.

Comes in: the reasoning of a stored episode, ours or upstream's. Goes out: by agent, what was said of each dimension.
Invariant: nothing is lost that stands after a dimension's name; a text in another form gives nothing.
"""

import re

from sotopia_sdpo.judge.dimensions import BY_NAME


JUDGE = re.compile(r"^Judge (.+):$")
AGENT = re.compile(r"^Agent ([12]) comments:\s*$")
OF_DIMENSION = re.compile(rf"^({'|'.join(BY_NAME)}): ?(.*)$")
Reasons = dict[str, list[str]]
"""By dimension; of a panel, one for each judge that gave a verdict, after its name."""


def reasons_in(reasoning: str) -> tuple[Reasons, Reasons]:
    """Return the reasons for the scores of the first agent and of the second one."""
    found: tuple[Reasons, Reasons] = {}, {}
    judge, agent, latest = "", None, None
    for line in reasoning.splitlines():
        if named := JUDGE.match(line):
            judge, agent, latest = f"{named[1]}: ", None, None
        elif spoken_of := AGENT.match(line):
            agent, latest = int(spoken_of[1]) - 1, None
        elif agent is not None and (told := OF_DIMENSION.match(line)):
            latest = found[agent].setdefault(told[1], [])
            latest.append(f"{judge}{told[2]}")
        elif latest:
            latest[-1] += f"\n{line}"
    return found
