# ruff: noqa: E501 (a small project a line)
"""A corpus of small faulty projects, at least two for each rule, and of code that looks alike and is fine.

The lines to be found carry the comment `# FAULT`.
"""

FAULTS: list[tuple[str, str | dict[str, str]]] = [
    ("unseeded-python-random", "import random\norder = list(range(9))\nrandom.shuffle(order)  # FAULT\n"),
    ("unseeded-python-random", "from random import choice as pick\n\ndef batch(data):\n    return pick(data)  # FAULT\n"),
    ("unseeded-python-random", "import random\nx = random.random()  # FAULT\nrandom.seed(1)\ny = random.random()\n"),
    ("unseeded-numpy-random", "import numpy as np\nw = np.random.randn(3, 4)  # FAULT\n"),
    ("unseeded-numpy-random", "from numpy import random as npr\n\ndef init(n):\n    return npr.uniform(size=n)  # FAULT\n"),
    (
        "unseeded-numpy-random",
        {
            "train.py": "import numpy as np\nnp.random.seed(0)\nw = np.random.rand(3)\n",
            "evaluate.py": "import numpy as np\nsubset = np.random.choice(100, 10)  # FAULT\n",
        },
    ),
    ("unseeded-torch-random", "import torch\nx = torch.randn(3)  # FAULT\n"),
    ("unseeded-torch-random", "import torch as t\n\ndef mask(n):\n    return t.randperm(n, generator=None)  # FAULT\n"),
    ("unseeded-generator", "import numpy as np\nrng = np.random.default_rng()  # FAULT\n"),
    ("unseeded-generator", "from numpy.random import RandomState\nrng = RandomState(None)  # FAULT\n"),
    ("unseeded-generator", "import random\nrng = random.Random()  # FAULT\nvalue = rng.random()\n"),
    ("unseeded-generator", "import torch\ntorch.seed()  # FAULT\n"),
    (
        "unseeded-split",
        "from sklearn.model_selection import train_test_split\n\ndef split(x, y):\n    return train_test_split(x, y, test_size=0.2)  # FAULT\n",
    ),
    (
        "unseeded-split",
        "from torch.utils.data import random_split\n\ndef split(data):\n    return random_split(data, [80, 20])  # FAULT\n",
    ),
    ("time-seed", "import random, time\nrandom.seed(time.time())  # FAULT\n"),
    ("time-seed", "import time, jax\nkey = jax.random.PRNGKey(int(time.time_ns()) % 2**32)  # FAULT\n"),
    ("time-seed", "from datetime import datetime\nconfig = {}\nconfig['seed'] = int(datetime.now().timestamp())  # FAULT\n"),
    ("time-seed", "import os, torch\nnow = os.getpid()\ntorch.manual_seed(now)  # FAULT\n"),
    ("time-seed", "import time\n\ndef run(train):\n    return train(steps=3, seed=time.time_ns())  # FAULT\n"),
    ("set-order", "names = {'a', 'b', 'c'}\nfor name in names:  # FAULT\n    print(name, len(name))\n    names_seen = [name]\n"),
    ("set-order", "def vocabulary(text):\n    return {word: i for i, word in enumerate(list(set(text.split())))}  # FAULT\n"),
    ("set-order", "def classes(labels: set[str]):\n    return [label.lower() for label in labels]  # FAULT\n"),
    ("set-order", "def common(a, b):\n    shared = set(a) & set(b)\n    return list(shared)  # FAULT\n"),
    ("set-order", "def keys(a, b):\n    return ','.join(a.keys() | b.keys())  # FAULT\n"),
    ("set-order", "def vocabulary(words):\n    return {word: number for number, word in enumerate(set(words))}  # FAULT\n"),
    ("set-order", "def init(rng):\n    return {name: rng.normal(size=3) for name in {'w', 'b'}}  # FAULT\n"),
    ("hash-of-str", "def seed_of(name):\n    return hash(name) % 2**32  # FAULT\n"),
    ("hash-of-str", "def is_test(path):\n    bucket = hash(path)  # FAULT\n    return bucket % 10 == 0\n"),
    (
        "jax-key-reuse",
        "import jax\nkey = jax.random.key(0)\nw = jax.random.normal(key, (3,))\nb = jax.random.uniform(key, (3,))  # FAULT\n",
    ),
    (
        "jax-key-reuse",
        "from jax import random\n\ndef noise(key, n):\n    out = []\n    for i in range(n):\n        out.append(random.normal(key))  # FAULT\n"
        "    return out\n",
    ),
    (
        "jax-key-reuse",
        "import jax.random as jr\n\ndef init(key):\n    k1, k2 = jr.split(key)\n    return jr.normal(k1), jr.normal(key)  # FAULT\n",
    ),
    ("jax-key-reuse", "import jax\n\ndef draw(rng):\n    return [jax.random.normal(rng) for _ in range(3)]  # FAULT\n"),
    (
        "jax-key-reuse",
        "import jax\n\ndef init():\n    keys = jax.random.split(jax.random.key(0), 3)\n    a = jax.random.normal(keys[0])\n"
        "    return a, jax.random.normal(keys[0])  # FAULT\n",
    ),
    (
        "jax-key-reuse",
        "import jax\n\ndef start(model, x):\n    key = jax.random.key(0)\n    params = model.init(key, x)\n"
        "    return params, jax.random.normal(key, x.shape)  # FAULT\n",
    ),
    (
        "jax-key-reuse",
        "import jax\n\ndef f(key, flag):\n    if flag:\n        x = jax.random.normal(key)\n    else:\n        x = 0\n"
        "    return x + jax.random.normal(key)  # FAULT\n",
    ),
    (
        "jax-key-reuse",
        "import jax\n\ndef init(key):\n    return jax.random.normal(key)\n\ndef main():\n    key = jax.random.key(0)\n    a = init(key)\n"
        "    return a + init(key)  # FAULT\n",
    ),
    ("unsorted-listing", "import os\nfiles = [f for f in os.listdir('data') if f.endswith('.npz')]  # FAULT\n"),
    (
        "unsorted-listing",
        "import glob\n\ndef load(read):\n    for path in glob.glob('data/*.png'):  # FAULT\n        yield read(path)\n",
    ),
    ("unsorted-listing", "from pathlib import Path\nshards = list(Path('data').rglob('*.tfrecord'))  # FAULT\n"),
    (
        "unsorted-listing",
        "import os\nfor root, _, files in os.walk('data'):  # FAULT\n    for file in files:\n        print(root, file)\n",
    ),
    (
        "loader-workers",
        "from torch.utils.data import DataLoader\n\ndef loader(data):\n    return DataLoader(data, num_workers=4, shuffle=True)  # FAULT\n",
    ),
    (
        "loader-workers",
        "import torch\n\ndef loader(data, workers, g):\n    return torch.utils.data.DataLoader(data, num_workers=workers, generator=g)  # FAULT\n",
    ),
    ("cudnn-benchmark", "import torch\ntorch.backends.cudnn.benchmark = True  # FAULT\n"),
    ("cudnn-benchmark", "from torch.backends import cudnn\n\ndef fast():\n    cudnn.benchmark = True  # FAULT\n"),
    ("determinism-off", "import torch\ntorch.backends.cudnn.deterministic = False  # FAULT\n"),
    ("determinism-off", "import torch\ntorch.use_deterministic_algorithms(False)  # FAULT\n"),
    ("unknown-suppression", "x = 1  # reprotui: ignore[no-such-rule] # FAULT\n"),
    ("unknown-suppression", "import random\nrandom.seed(1)  # reprotui: ignore[time-sed, set-order] # FAULT\n"),
    ("syntax-error", "x = 1\ndef broken(:  # FAULT\n    pass\n"),
    ("syntax-error", "print 'python 2'  # FAULT\n"),
]

CLEAN: list[str | dict[str, str]] = [
    "def table(words):\n    return {word: 0 for word in set(words)}, {n: w for n, w in enumerate(sorted(set(words)))}\n",
    "import jax\n\ndef init(key, n):\n    return jax.random.normal(jax.random.fold_in(key, n))\n\ndef main():\n    key = jax.random.key(0)\n"
    "    return init(key, 0) + init(key, 1)\n",
    "import random\nrandom.seed(3)\nx = random.random()\n",
    "import random\nrng = random.Random(3)\nx = rng.random()\nrng.shuffle([1])\n",
    "import numpy as np\nnp.random.seed(3)\n\ndef f():\n    return np.random.rand(3)\n",
    "import numpy as np\nrng = np.random.default_rng(3)\nx = rng.normal(size=3)\n",
    "import numpy as np\n\ndef f(rng: np.random.Generator):\n    return rng.normal(), np.random.SeedSequence(1)\n",
    "from reprotui.reproduce import set_global_seeds\nimport numpy as np\nset_global_seeds(1)\nprint(np.random.rand(2))\n",
    "from reprotui.reproduce import set_global_seed\nimport torch, numpy as np, random\nset_global_seed(1)\n"
    "x = torch.randn(3), np.random.rand(3), random.random()\n",
    "import torch\ng = torch.Generator().manual_seed(1)\nx = torch.randn(3, generator=g)\ny = torch.zeros(3).normal_(generator=g)\n",
    "class random:\n    @staticmethod\n    def random():\n        return 4\n\nx = random.random()\n",
    "def f(random):\n    return random.random(), random.choice([1])\n",
    "import jax\n\ndef f(key):\n    key, a = jax.random.split(key)\n    x = jax.random.normal(a)\n    key, b = jax.random.split(key)\n"
    "    return x + jax.random.normal(b)\n",
    "import jax\n\ndef f(key, n):\n    total = 0\n    for i in range(n):\n        key, sub = jax.random.split(key)\n"
    "        total += jax.random.normal(sub)\n    return total\n",
    "import jax\n\ndef f(key, n):\n    return [jax.random.normal(jax.random.fold_in(key, i)) for i in range(n)]\n",
    "import jax\n\ndef f(key, n):\n    return [jax.random.normal(k) for k in jax.random.split(key, n)]\n",
    "import jax\n\ndef f(key, flag):\n    if flag:\n        return jax.random.normal(key)\n    return jax.random.uniform(key)\n",
    "import jax\n\ndef f(key, kind):\n    match kind:\n        case 'n':\n            x = jax.random.normal(key)\n        case _:\n"
    "            x = jax.random.uniform(key)\n    return x\n",
    "import jax\n\ndef f(key):\n    keys = jax.random.split(key, 4)\n    a, b = jax.random.normal(keys[0]), jax.random.normal(keys[1])\n"
    "    for i in range(2, 4):\n        a += jax.random.normal(keys[i])\n    return a + b\n",
    "import jax\n\ndef f(key):\n    try:\n        return jax.random.normal(key)\n    except ValueError:\n        return jax.random.uniform(key)\n",
    "import jax\n\ndef f(key, x):\n    return jax.random.normal(key) if x else jax.random.uniform(key)\n",
    "import jax\n\ndef f(tool, key):\n    tool.init(key)\n    return jax.random.normal(key)\n",
    "import jax\n\ndef f(key, n):\n    while True:\n        x = jax.random.normal(key)\n        return x\n",
    "for name in sorted({'a', 'b'}):\n    print(name)\n",
    "seen = set()\nfor name in ['a', 'b']:\n    if name in seen:\n        raise ValueError(name)\n    seen.add(name)\nprint(len(seen), 'a' in seen)\n",
    "for i in {3, 1, 2}:\n    print(i)\n",
    "def check(a: set[str], allowed: set[str]):\n    for name in a - allowed:\n        raise ValueError(name)\n    return sorted(a | allowed)\n",
    "def only(a):\n    names = set(a)\n    assert len(names) == 1\n    return names.pop()\n",
    "def count(a):\n    return max(len(x) for x in set(a)), sum(1 for x in set(a)), all(x for x in set(a)), {x.lower() for x in set(a)}\n",
    "def fail(a):\n    raise ValueError(', '.join(set(a)))\n",
    "class Point:\n    def __init__(self, x):\n        self.x = x\n        self._hash = hash(x)\n\n    def __hash__(self):\n        return hash((1, self.x))\n",
    "def same(a, b):\n    try:\n        hash(a)\n    except TypeError:\n        return False\n    return hash(a) == hash(b) and hash(3)\n",
    "import os\nfor name in sorted(os.listdir('data')):\n    print(name)\n",
    "import os\nfiles = os.listdir('data')\nfiles.sort()\nprint(files[0])\n",
    "import os, glob, pathlib\nn = len(os.listdir('data'))\nfound = any(glob.iglob('*.x'))\nnames = set(pathlib.Path('.').iterdir())\n"
    "ok = 'a' in os.listdir('.')\n",
    "from pathlib import Path\nfor path in Path('tmp').glob('*'):\n    path.unlink()\n",
    "import os\nfor root, dirs, files in os.walk('data'):\n    dirs.sort()\n    for file in sorted(files):\n        print(root, file)\n",
    "import time, random\nstart = time.time()\nrandom.seed(3)\nelapsed = time.time() - start\nprint(elapsed)\n",
    "from torch.utils.data import DataLoader\n\ndef f(data, g, w, options):\n    return [DataLoader(data), DataLoader(data, num_workers=0),\n"
    "        DataLoader(data, num_workers=2, generator=g, worker_init_fn=w), DataLoader(data, num_workers=2, **options)]\n",
    "import torch\ntorch.backends.cudnn.benchmark = False\ntorch.use_deterministic_algorithms(True)\n",
    "from sklearn.model_selection import train_test_split\n\ndef f(x):\n    return train_test_split(x, random_state=3), train_test_split(x, shuffle=False)\n",
    "text = '''\nimport random\nrandom.random()\n# reprotui: ignore[no-such-rule]\n'''\n",
    "import uuid, time\nrun_name = f'{uuid.uuid4()}-{time.time()}'\n",
]
