"""Play the quests of an environment with a true reward: ScienceWorld, or the small game of the package.

The tasks mean what they mean for `sotopia benchmark`: `sft` plays the environment's own gold actions on train quests,
`neg` a model; `pos` plays negative_data.json again and `hpos` goes on from the located turns of
negative_data_error.json, five times each; `all` evaluates on test quests. Episodes are stored as SOTOPIA's are, so a
second call goes on where the first one stopped, and the other scripts of this folder read them.

    python dpo/rollout.py --env scienceworld --task sft --tasks-of find-plant,find-animal
    python dpo/rollout.py --env scienceworld --task all --model custom/agent@http://localhost:8000/v1 --limit 200
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from sotopia_sdpo.pairs.options import script
from sotopia_sdpo.rollout import main


if __name__ == "__main__":
    script(main)
