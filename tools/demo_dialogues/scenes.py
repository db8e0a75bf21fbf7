"""The kinds of scene of the demo dialogues: topic, places, what each side wants and what can be offered.

Everything here is invented. Slots in braces are filled by dialogues.py: {agent}, {partner}, {place}, {day}, {hour},
{sum}, {years}. A need and the offer that answers it stand side by side in Scene.needs.
"""

from typing import NamedTuple


class Need(NamedTuple):
    """What the partner says they need, and the offer that answers it."""

    said: str
    answer: str


class Wish(NamedTuple):
    """The agent's private goal, and how the agent says it."""

    goal: str
    said: str


class Scene(NamedTuple):
    """One kind of situation; the tuples are pools from which a dialogue draws."""

    key: str
    topic: str
    relations: tuple[str, ...]
    places: tuple[str, ...]
    settings: tuple[str, ...]
    wishes: tuple[Wish, ...]
    needs: tuple[Need, ...]


SCENES: tuple[Scene, ...] = (
    Scene(
        "split_bill",
        "the bill",
        ("friends from a running club", "former flatmates", "cousins"),
        ("the corner restaurant", "a noodle bar", "the harbour grill"),
        (
            "After a long dinner at {place} a bill of {sum} euros lies on the table. One of them had the fish and two "
            "glasses of wine, the other a soup and water.",
            "{agent} and {partner} celebrated at {place}, and the waiter wants one payment of {sum} euros. Nobody had "
            "agreed beforehand on who pays what.",
        ),
        (
            Wish("pay for your own dishes only", "I have to watch my money until the next wage"),
            Wish("split the bill evenly without hurt feelings", "I do not like counting every glass among friends"),
        ),
        (
            Need("I only had a soup and I am short of cash", "I pay for the wine and you pay for your soup"),
            Need("I would hate to reckon up each dish", "we halve the sum and I add the tip"),
            Need("my card does not work today", "I pay now and you send me your part next week"),
        ),
    ),
    Scene(
        "swap_shift",
        "the Saturday shift",
        ("colleagues in a bakery", "nurses on the same ward", "guards at a museum"),
        ("the staff room", "the canteen", "the back office"),
        (
            "The plan for next month hangs at {place}. {agent} is down for Saturday, {partner} is off that day, and "
            "the manager allows any swap that both sign by {day}.",
            "Two people fell ill, and one of {agent} and {partner} has to take Saturday. They talk about it at "
            "{place} before the manager decides for them.",
        ),
        (
            Wish("get Saturday off for your sister's wedding", "my sister gets married on that Saturday"),
            Wish("have a free weekend after six weeks of work", "I have worked six weekends in a row"),
        ),
        (
            Need("I cannot find anyone for the children in the evening", "you take my early hours and leave at noon"),
            Need("I need the extra pay this month", "you get my bonus hours for that day"),
            Need("I want two days off in a row", "I take your Sunday and Monday for it"),
        ),
    ),
    Scene(
        "lend_car",
        "the car",
        ("neighbours", "brother and sister", "old school friends"),
        ("the garage", "the front yard", "a parking lot"),
        (
            "{partner} owns a small blue car, and {agent} would need it on {day}. The last time it came back with an "
            "empty tank, which was never talked about. They meet at {place}.",
            "{agent} has to fetch a heavy cupboard on {day} and has no car. {partner} has one and stands at {place} "
            "with a sponge in hand.",
        ),
        (
            Wish("borrow the car for one day", "I have to fetch a cupboard and no van is left in town"),
            Wish("borrow the car and stay on good terms", "I need to bring my father to the clinic"),
        ),
        (
            Need("I need it back before the evening", "I bring it back at {hour} o'clock at the latest"),
            Need("I am worried about the fuel and the scratches", "I fill the tank and pay for every scratch"),
            Need("nobody but me has driven it so far", "you come along and drive, and I buy you lunch"),
        ),
    ),
    Scene(
        "plan_trip",
        "the trip",
        ("a couple of two years", "hiking friends", "mother and grown-up child"),
        ("the kitchen table", "a travel office", "the library"),
        (
            "The two have five days off together and {sum} euros in the common purse. One loves the mountains, the "
            "other the sea. At {place} they want to book something by {day}.",
            "Last year's trip ended in a quarrel about the pace. This time {agent} and {partner} sit at {place} with "
            "two guide books and want to do better.",
        ),
        (
            Wish("go to the mountains", "I miss the mountains and long walks"),
            Wish("keep the trip under {sum} euros", "I cannot spend more than we have put aside"),
        ),
        (
            Need("I need to sleep in and rest", "we walk in the afternoon and mornings stay free"),
            Need("I long for water to swim in", "we take a hut beside a lake"),
            Need("I get sick on long bus rides", "we go by train and stay in one town"),
        ),
    ),
    Scene(
        "choose_flat",
        "the flat",
        ("future flatmates", "students of the same year", "sisters"),
        ("a coffee house", "the stairs of the town hall", "the agent's office"),
        (
            "Two flats are left on the list: a bright one far out and a dark one in the centre, {sum} euros apart. "
            "{agent} and {partner} must answer by {day} and sit at {place}.",
            "{agent} and {partner} want to live together and found one place with rooms of very different size. They "
            "go through it at {place}.",
        ),
        (
            Wish("take the bright flat", "I work at home and need daylight"),
            Wish("get the larger room", "I have a piano that must stand somewhere"),
        ),
        (
            Need("I come home late and need a short way", "we take the central one and I get the window side"),
            Need("the rent is almost too high for me", "I pay more because I use more space"),
            Need("I need silence to learn for my exam", "you get the room to the yard and I practise at noon"),
        ),
    ),
    Scene(
        "make_up",
        "the missed birthday",
        ("close friends", "half-brothers", "band members"),
        ("the park bench", "a small bar", "the rehearsal room"),
        (
            "{agent} forgot the birthday of {partner}, who had kept a chair free all evening. Three weeks went by in "
            "silence. Now they meet at {place}.",
            "{agent} had promised a speech at the birthday of {partner} and never came. A common friend brought "
            "them together at {place} on a {day}.",
        ),
        (
            Wish("save the friendship", "I was at the hospital and had no battery left"),
            Wish("explain yourself and be forgiven", "I mixed up two weeks because of the night work"),
        ),
        (
            Need("I want that we keep an evening for us", "we have dinner on {day} and I cook for you"),
            Need("I had to explain it to all the guests", "I write to the guests and tell them it was my fault"),
            Need("I want to be able to rely on you", "I put all your dates in my book and call a day before"),
        ),
    ),
    Scene(
        "sell_bicycle",
        "the bicycle",
        ("strangers who met through an advert", "colleagues", "members of a sports club"),
        ("the cycle path", "a back yard", "the repair shop"),
        (
            "{agent} wants to sell a used bicycle for about {sum} euros. {partner} came to {place} to look at it and "
            "found that the rear brake is worn.",
            "{partner} offers a used bicycle, {agent} has come to {place} to see it. The advert said {sum} euros, and "
            "the saddle is torn.",
        ),
        (
            Wish("agree on a price near {sum} euros", "I need about {sum} euros for the deal to make sense"),
            Wish("close the deal today", "I leave town on {day} and want it done by then"),
        ),
        (
            Need("I ride to work in the dark", "the good lamp goes with it and I mount it myself"),
            Need("I cannot pay or wait for a repair", "I bear the cost of the new brake"),
            Need("I do not have all the money at once", "half is paid now and half next month"),
        ),
    ),
    Scene(
        "comfort_friend",
        "the lost job",
        ("friends since childhood", "neighbours", "chess partners"),
        ("the balcony", "the river bank", "a tea room"),
        (
            "{partner} was let go after {years} years at the same firm and has hardly left the house. {agent} also "
            "works there and knew of it a day earlier. They sit at {place}.",
            "It is a {day}, and {partner}, without work for a month, did not answer any call. {agent} gets them "
            "to come out to {place}.",
        ),
        (
            Wish("cheer {partner} up and keep your secret", "I was told to keep silent about it"),
            Wish("get {partner} to accept help", "I was in the same spot once and it got better"),
        ),
        (
            Need("I cannot write any more applications", "we write one together on {day} evening"),
            Need("I am alone all day long", "we go for a walk each morning before my work"),
            Need("I do not know how to pay the rent", "I lend you {sum} euros without a date"),
        ),
    ),
    Scene(
        "share_chores",
        "the chores",
        ("flatmates", "a married couple", "brothers in one household"),
        ("the kitchen", "the living room", "the hallway"),
        (
            "The sink is full and the plan on the fridge has been empty for weeks. {agent} and {partner} share the "
            "home and meet by chance at {place} on a {day}.",
            "Guests are due on {day}, and nothing is clean. {agent} did the last three rounds, or so {agent} thinks. "
            "They talk in front of {place}.",
        ),
        (
            Wish("get a fixed plan for the week", "I cannot rest when the place is a mess"),
            Wish("do less of the cleaning", "I have a bad back since spring"),
        ),
        (
            Need("I hate the bathroom more than anything", "I do the bathroom and you take the kitchen"),
            Need("I am home only at weekends", "I do the week days and you do the big round on Saturday"),
            Need("I never know whose turn it is", "I hang up a list and we tick it off"),
        ),
    ),
    Scene(
        "ask_raise",
        "the new pay",
        ("employee and manager", "a cook and the owner", "a trainer and the head of the gym"),
        ("the meeting room", "the small office", "the terrace"),
        (
            "{agent} has worked for {partner} for {years} years and has taken over the tasks of a colleague who left. "
            "The yearly talk takes place at {place}; a rise of {sum} euros a month is at stake.",
            "Sales are flat, yet {agent} brought two large clients. {partner} has to explain every rise to the board "
            "and receives {agent} at {place}.",
        ),
        (
            Wish("get a rise of {sum} euros a month", "I do the work of two since spring"),
            Wish("get more pay or more free time", "I have a second child on the way"),
        ),
        (
            Need("the board wants to see figures", "I hand in my figures by {day} and we decide on them"),
            Need("there is no money before the summer", "the rise comes in two steps after the summer"),
            Need("I have to keep the team calm", "it goes through the bonus and remains between us"),
        ),
    ),
    Scene(
        "night_noise",
        "the noise at night",
        ("neighbours on two floors", "tenants of one house", "people from the same courtyard"),
        ("the stairwell", "the letter boxes", "the garden gate"),
        (
            "Music and steps can be heard through the ceiling until late. {agent} and {partner} have left each other "
            "notes and now meet at {place} on a {day}.",
            "One of the two learns the drums, the other rises at four in the morning. The landlord told {agent} and "
            "{partner} at {place} to settle it themselves.",
        ),
        (
            Wish("find hours that both can live with", "I have to be up before the sun"),
            Wish("keep your evenings free for music", "I have a concert at the end of the month"),
        ),
        (
            Need("I cannot sleep before midnight anyway", "it may be loud until {hour} and not a minute longer"),
            Need("the baby wakes at every thump", "we put a thick carpet down and I pay half"),
            Need("I want to be told beforehand", "I put a note under your door two days before"),
        ),
    ),
    Scene(
        "broken_camera",
        "the camera",
        ("fellow students", "aunt and nephew", "members of a photo club"),
        ("the studio", "a museum café", "the bus stop"),
        (
            "{agent} borrowed a camera worth {sum} euros from {partner}, and since then the lens does not close. They "
            "meet at {place} to hand it over.",
            "A camera of {partner} fell while {agent} carried it; a repair would cost {sum} euros. Both are at "
            "{place} and the exhibition opens on {day}.",
        ),
        (
            Wish("settle the damage for less than {sum} euros", "the strap was loose before I took it"),
            Wish("be trusted with the camera again", "I need it for my final project"),
        ),
        (
            Need("I need a working one by {day}", "you get my own camera until yours is mended"),
            Need("it was a gift from my father", "I take it to the best shop and no part is thrown away"),
            Need("I have no insurance for it", "I cover the repair and you add nothing"),
        ),
    ),
)
