"""Keep the random numbers of the network itself (dropout, drop path) with the checkpoint."""

from __future__ import annotations

from typing import Any

import torch

from offroad_seg_core.training.distributed import gathered
from offroad_seg_core.training.lightning_import import lightning


class RandomStates(lightning.Callback):
    """Save the state of torch's generators of every process; go on with it when resumed.

    Views and the order of frames have generators of their own that need no state.
    """

    def __init__(self) -> None:
        self._resumed: list[dict[str, torch.Tensor]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all processes; Lightning asks in each of them."""
        return {'states': gathered(_state())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what was saved."""
        self._resumed = state_dict['states']

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Go on with the random numbers where the checkpoint was written."""
        # Now and not earlier: the data loaders' iterators draw when they are made.
        if self._resumed:
            state = self._resumed[trainer.global_rank]
            torch.set_rng_state(state['cpu'].cpu())
            if 'cuda' in state and torch.cuda.is_available():
                torch.cuda.set_rng_state(state['cuda'].cpu())
            self._resumed = []


def _state() -> dict[str, torch.Tensor]:
    state = {'cpu': torch.get_rng_state()}
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state
