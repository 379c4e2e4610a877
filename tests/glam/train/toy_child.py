"""A run of the toy in a process of its own.

python -m tests.glam.train.toy_child FOLDER '{"steps": 9, "every": 3, "pause": 0.01}'
"""

import json
import sys
import time

import jax

from glam.train.parallel import join
from tests.glam.train.toy import Numbers, Told, plan, train


class Slow(Numbers):
    def __init__(self, pause):
        super().__init__()
        self.pause = pause

    def __next__(self):
        time.sleep(self.pause)
        return super().__next__()


def main(folder, options):
    if "devices" in options:
        jax.config.update("jax_num_cpu_devices", options["devices"])
    if "coordinator" in options:
        join(options["coordinator"], options["processes"], options["process"])
    chosen = plan(options["steps"], options.get("every", 4))
    screen = Told()
    outcome = train(folder, chosen, Slow(options.get("pause", 0)), screen=screen)
    print(json.dumps({"ended": outcome.ended, "said": screen.sentences}))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
