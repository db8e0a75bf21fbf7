"""What every store must do, as one class of tests: test_store_sqlite and test_store_redis run it on theirs.

A subclass gives the fixture `open_again`: a function that opens one more Store on the same database.
"""

import pytest

from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.store.keys import EpisodeKey


TAG = "benchmark_m_p_e_all_trial0"
TTL_S = 30
VERDICT = (3.5, {"goal": 8.0, "relationship": 2.0})


def make_episode(number=0, tag=TAG, status="scored", **fields):
    """Make an episode that differs from others by its number."""
    return Episode(
        environment=f"env{number}",
        agents=["ann", "bob"],
        tag=tag,
        models=["e", "m", "p"],
        messages=[[("Environment", "Ann", f"hello {number} \u00fc\u0000")], [("Ann", "Environment", 'said: "}"')]],
        rewards=[VERDICT, VERDICT] if status == "scored" else [],
        status=status,
        failure="it broke" if status == "failed" else "",
        **fields,
    )


def put_all(store, episodes):
    """Write episodes at once."""
    store.put_entries(("episodes", episode) for episode in episodes)


def take(store, key, owner):
    """Take a claim that has run out, after a last call that takes no time."""
    assert not store.claim(key, owner, 0)
    assert store.claim(key, owner, TTL_S)


class StoreContract:
    """The tests; `store` is a fresh, empty one."""

    @pytest.fixture
    def store(self, open_again):
        with open_again() as store:
            yield store

    def test_episode_comes_back_whole(self, store, open_again):
        episode = make_episode(
            seed=3,
            settings={"temperature": 0.7},
            usage={"tokens": 12},
            source_episode="S",
            location=3,
            agent_position=1,
        )
        assert store.put_episode(episode)
        with open_again() as other:
            assert other.get_episode(episode.pk) == episode
            assert other.heads() == [episode.head]
        assert store.get_episode("nobody") is None

    def test_putting_twice_keeps_one(self, store):
        store.put_episode(make_episode(status="failed"))
        store.put_episode(make_episode())
        assert [head.status for head in store.heads()] == ["scored"]
        assert store.counts().episodes == {TAG: {"scored": 1}}

    def test_an_episode_may_move_to_another_tag(self, store):
        first = make_episode()
        store.put_episode(first)
        store.put_episode(first.model_copy(update={"tag": "other"}))
        assert store.heads([TAG]) == []
        assert [head.key.tag for head in store.heads()] == ["other"]
        assert store.find_keys([first.key]) == {}

    def test_iterate_by_tag_and_status(self, store):
        episodes = [make_episode(n, status="unscored" if n % 3 == 0 else "scored") for n in range(120)]
        put_all(store, [*episodes, make_episode(tag="other")])
        in_order = sorted(episodes, key=lambda episode: episode.pk)
        assert list(store.episodes(TAG)) == in_order
        assert list(store.episodes(TAG, "unscored")) == [e for e in in_order if e.status == "unscored"]
        assert len(list(store.episodes())) == 121
        assert store.heads([TAG]) == [episode.head for episode in in_order]
        assert store.heads([]) == []

    def test_writing_while_iterating(self, store):
        put_all(store, map(make_episode, range(60)))
        for episode in store.episodes():
            store.put_episode(episode.model_copy(update={"reasoning": "seen"}))
        assert {episode.reasoning for episode in store.episodes()} == {"seen"}

    def test_find_keys(self, store):
        """Three keys: one scored, one failed, one not there; the scored try hides a failed one of the same key."""
        scored, failed = make_episode(1), make_episode(2, status="failed")
        put_all(store, [scored, failed, make_episode(1, status="failed", pk="0 earlier"), make_episode(3)])
        missing = EpisodeKey(TAG, "env9/ann/bob", 0, 0)
        found = store.find_keys([scored.key, failed.key, missing])
        assert found == {scored.key: scored.head, failed.key: failed.head}
        assert store.find_keys([]) == {}

    def test_delete(self, store):
        episodes = [make_episode(n) for n in range(5)]
        put_all(store, [*episodes, make_episode(tag="other")])
        assert store.delete_episodes([episodes[0].pk, "nobody"]) == 1
        assert store.get_episode(episodes[0].pk) is None
        assert store.delete_tag(TAG) == 4
        assert store.delete_tag(TAG) == 0
        assert list(store.counts().episodes) == ["other"]
        assert store.find_keys([episodes[1].key]) == {}

    def test_profiles(self, store):
        agents = [{"pk": f"a{n}", "first_name": "Ann", "last_name": "\u00fc", "age": n} for n in (2, 1)]
        store.put_entries(("agents", agent) for agent in agents)
        store.put_entries([("agents", {**agents[0], "age": 9})])
        assert store.get_profile("agents", "a2")["age"] == 9
        assert store.get_profile("agents", "nobody") is None
        assert store.get_profile("environments", "a2") is None
        assert [profile["pk"] for profile in store.profiles("agents")] == ["a1", "a2"]
        assert store.counts().profiles == {"agents": 2}

    def test_all_or_nothing(self, store):
        """A stream that breaks after 1,000 records leaves no trace."""

        def broken():
            yield "agents", {"pk": "a", "first_name": "A", "last_name": "B"}
            for number in range(1000):
                yield "episodes", make_episode(number)
            raise LookupError("the file ends here")

        store.put_episode(make_episode(5, status="failed"))
        with pytest.raises(LookupError):
            store.put_entries(broken())
        assert store.counts().profiles == {}
        assert store.counts().episodes == {TAG: {"failed": 1}}

    def test_claims_exclude(self, store, open_again):
        key = make_episode().key
        with open_again() as other:
            assert store.claim(key, "me", TTL_S)
            assert store.claim(key, "me", TTL_S)
            assert not other.claim(key, "you", TTL_S)
            other.release([key], "you")
            assert not other.claim(key, "you", TTL_S)
            store.release([key], "me")
            assert other.claim(key, "you", TTL_S)

    def test_a_scored_key_cannot_be_claimed(self, store):
        store.put_episode(make_episode(status="unscored"))
        assert store.claim(make_episode().key, "me", TTL_S)
        store.put_episode(make_episode(), "me")
        assert not store.claim(make_episode().key, "me", TTL_S)

    def test_a_claim_runs_out(self, store):
        """A dead owner's key is another's after its time; a sleeper's is its own as long as nobody took it."""
        key = make_episode().key
        assert store.claim(key, "sleeper", 0)
        assert store.renew([key], "sleeper", 0) == {key}
        take(store, key, "you")
        assert store.renew([key], "sleeper", TTL_S) == set()
        assert store.renew([key], "you", TTL_S) == {key}

    def test_a_claim_that_ran_out_is_called_out_once(self, store):
        """Its time may be over because nobody could write: the owner is given a quarter more, and can renew it."""
        key = make_episode().key
        assert store.claim(key, "away", 0)
        assert not store.claim(key, "you", TTL_S) and not store.claim(key, "third", 0)
        assert store.claimers(TAG) == {"away"}
        assert store.renew([key], "away", 0) == {key}
        assert not store.claim(key, "you", TTL_S)
        assert store.put_episode(make_episode(status="unscored"), "away")

    def test_put_under_a_claim(self, store):
        """Who lost the claim writes nothing; who holds it replaces earlier tries and gives the claim up."""
        key = make_episode().key
        put_all(store, [make_episode(status="failed", pk="0 earlier"), make_episode(status="scored", tag="other")])
        assert store.claim(key, "sleeper", 0)
        take(store, key, "you")
        assert not store.put_episode(make_episode(status="unscored"), "sleeper")
        assert [head.status for head in store.heads([TAG])] == ["failed"]
        assert store.put_episode(make_episode(status="unscored"), "you")
        assert [(head.pk, head.status) for head in store.heads([TAG])] == [(key.pk, "unscored")]
        assert store.claim(key, "third", TTL_S)

    def test_who_holds_claims(self, store):
        """Claims that are alive, of this tag and no other, also where tags hold what patterns are made of."""
        tag = 'a*[b]?\\ü"'
        for number, (name, owner, ttl_s) in enumerate([(tag, "me", TTL_S), (tag, "you", TTL_S), (tag, "dead", 0)]):
            assert store.claim(make_episode(number, tag=name).key, owner, ttl_s)
        assert store.claim(make_episode(tag="aXb").key, "other", TTL_S)
        assert store.claimers(tag) == {"me", "you"}
        assert store.claimers("a*") == set()
        store.release([make_episode(tag=tag).key], "me")
        assert store.claimers(tag) == {"you"}

    def test_many_claims_at_once(self, store):
        keys = [make_episode(n).key for n in range(1500)]
        for key in keys[:20]:
            assert store.claim(key, "me", TTL_S)
        assert store.renew(keys, "me", TTL_S) == set(keys[:20])
        store.release(keys, "me")
        assert store.renew(keys, "me", TTL_S) == set()
