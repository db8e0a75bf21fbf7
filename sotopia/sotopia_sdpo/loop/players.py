"""Who plays, judges and annotates in the loop: what commands call them, and the servers they need."""

from sotopia_sdpo.loop.agents import Agent
from sotopia_sdpo.loop.machine import Machine
from sotopia_sdpo.loop.settings import Settings
from sotopia_sdpo.make.steps import Command, Service, sotopia


SIMULATED = "simulated/"
SELF = "self"


class Players:
    """The agent, and the models that the settings name."""

    def __init__(self, settings: Settings, machine: Machine, *serving: str) -> None:
        """Take the settings, what serves the agent, and what is changed of how it does."""
        self.settings = settings
        self.machine = machine
        self.serving = serving

    def name(self, model: str, agent: Agent | None = None) -> str:
        """Return what the commands call a model; where it is `self`, an agent."""
        if model == SELF:
            served = agent.served_as(self.machine.agent) if agent else self.machine.agent
            return f"custom/{served}@{{agent}}"
        return f"custom/{model.removeprefix(SIMULATED)}@{{simulation}}" if model.startswith(SIMULATED) else model

    def agent(self, agent: Agent) -> Service:
        """Return the server of an agent's model."""
        return self.machine.serve(agent.model, *self.serving)

    def loaded(self, agent: Agent) -> tuple[Command, ...]:
        """Return what gives the server an agent's adapters, which every step does that needs them."""
        return (self.machine.load(agent),) if agent.adapters else ()

    def scripted(self, *models: str) -> tuple[Service, ...]:
        """Return the scripted server, if one of the models is played by it."""
        if not any(model.startswith(SIMULATED) for model in models):
            return ()
        options = self.settings.simulate

        def argv(port: int) -> tuple[str, ...]:
            return sotopia("simulate", "--port", str(port), *options).argv

        return (Service("simulation", "simulate", argv, words=options),)
