"""Names of the loss terms, apart from their mathematics so that configurations load without torch."""

LOSS_TYPES = ("sigmoid", "bco_pair", "sft")
"""TRL's names: DPO, BCO over pairs, and the generation loss on the chosen completion."""
METRIC_NAMES = {"sigmoid": "mpo/dpo", "bco_pair": "mpo/bco", "sft": "mpo/sft"}
