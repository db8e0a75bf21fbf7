"""The people of the demo dialogues, and what the agent is told about them in the first turn.

Every person is invented: a name, an age, a job, a temper, habits and a secret. The first turn of a dialogue is put
together from these pools by background.py.
"""

NAMES: tuple[str, ...] = (
    "Alma", "Bruno", "Carla", "Dario", "Edda", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kira", "Levin", "Mona",
    "Nils", "Olga", "Pavel", "Rosa", "Samir", "Tilda", "Umar", "Vera", "Willem", "Yara", "Zoran",
)  # fmt: skip
SURNAMES: tuple[str, ...] = (
    "Abel", "Brandt", "Castro", "Dumas", "Eklund", "Fontana", "Gruber", "Hansen", "Ito", "Jansen", "Kovacs", "Lund",
    "Moreau", "Novak", "Okafor", "Petit", "Quist", "Romero", "Silva", "Tanaka",
)  # fmt: skip
JOBS: tuple[str, ...] = (
    "baker", "bus driver", "carpenter", "dentist", "florist", "gardener", "librarian", "locksmith", "musician",
    "nurse", "painter", "pharmacist", "postman", "programmer", "sailor", "tailor", "teacher", "translator",
)  # fmt: skip
TRAITS: tuple[str, ...] = (
    "patient but stubborn about small things", "quick to laugh and quick to take offence", "careful with money",
    "warm, talkative and often late", "quiet, exact and loyal", "proud, yet fair when treated fairly",
    "curious about people", "impatient with long talks",
)  # fmt: skip
HABITS: tuple[str, ...] = (
    "plays cards every Thursday", "keeps bees on the roof", "sings in a choir", "repairs old radios",
    "runs along the canal before breakfast", "bakes bread for the whole house", "collects maps",
    "looks after two cats", "reads crime novels at night", "grows tomatoes on the window sill",
)  # fmt: skip
SECRETS: tuple[str, ...] = (
    "has debts nobody knows of", "is thinking of moving abroad", "once failed the same exam three times",
    "has been seeing a doctor for months", "lent a large sum to a cousin and never got it back",
    "applied for another post last week", "cannot swim and hides it", "writes poems under another name",
)  # fmt: skip
DAYS: tuple[str, ...] = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Sunday")
MEMORIES: tuple[str, ...] = (
    "Two summers ago you both helped to build a stage at {place}, and {partner} stayed until the last nail was in.",
    "{partner} once waited an hour for you in the rain and has told the story at every party since then.",
    "You have {partner}'s spare key, and last winter you watered the plants there for {years} weeks.",
    "At New Year you disagreed about money, but neither of you has come back to it.",
    "{partner} tends to say yes at first and to regret it a day later.",
    "You still owe {partner} a small favour from the time when your bicycle was stolen.",
    "People say that {partner} decides slowly and then sticks to the decision.",
    "The two of you laugh about the same old films, which has helped over many a dull evening.",
    "When {partner} gets nervous, the sentences become short and the hands look for something to hold.",
    "You know that {partner} does not like to be interrupted while telling something.",
    "In the past {years} years you have had only one real quarrel, and it ended with a cake at the door.",
    "A common friend told you that {partner} speaks well of you when you are not there.",
    "{partner} has had a full week and plans to be home by {hour} o'clock.",
    "You were late the last time, and {partner} has noticed it.",
    "Your own family knows about this meeting and will ask you tonight how it went.",
    "You slept badly and would rather talk about it once and properly than three times by halves.",
    "Once you lent {partner} {sum} euros and got them back a day early, with a bar of chocolate on top.",
    "{partner} has an uncle who always says that a good bargain leaves both sides a little unhappy, and quotes him.",
    "On a {day} in spring you both missed the last train and walked home for two hours, talking about everything.",
    "It is known that {partner} dislikes long letters and prefers to talk face to face.",
    "There is a cake in your bag which you meant to bring to your aunt, and it smells of cinnamon.",
    "You have told {partner} more about your family than most people know, and nothing of it was ever passed on.",
    "The heating at {place} has been out of order since {day}, so both of you keep your coats on.",
    "{partner} once changed a whole plan for your sake and never mentioned it again.",
    "You have made up your mind not to raise your voice this time, whatever comes.",
    "Your phone is on silent, since the last talk was cut short by a call.",
    "{partner} keeps lists for everything and has one in the pocket today as well.",
    "In {years} years you have learned that {partner} looks at the ceiling when a compromise is near.",
)
