"""What the runners share that are one network of tokens with its tokenizer. Knows no task."""

from pathlib import Path
from typing import Any, ClassVar, Self

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from deployments.hub.checkpoint import Checkpoint, network
from deployments.hub.tokens import Tokens


class TextNetwork(Checkpoint):
    kind: ClassVar[Any]  # a class of transformers
    needs_offsets: ClassVar[bool] = False  # whether the tokenizer must say where in the text a token stands

    def __init__(self, network: Any, tokens: Tokens) -> None:
        super().__init__(network)
        self._network, self._tokens = network, tokens

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        net = network(cls.kind, card, folder)
        tokens = Tokens.of(net, card, folder)
        if cls.needs_offsets and not tokens.tokenizer.is_fast:
            raise ModelError(f"{card.id} cannot be used: its tokenizer does not say where in the text a token stands")
        cls.check(card, net, tokens)
        return cls(net, tokens)

    @classmethod
    def check(cls, card: ModelCard, net: Any, tokens: Tokens) -> None:
        """Raises ModelError for a checkpoint of the right kind that cannot do the task."""
