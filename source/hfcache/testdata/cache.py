"""Fills a cache of huggingface_hub from a Hub.

    cache.py ENDPOINT CACHE
"""

import os
import sys

endpoint, cache = sys.argv[1:]
os.environ.update(HF_ENDPOINT=endpoint, HF_HUB_CACHE=cache, HF_HOME=cache + "-home", HF_HUB_DISABLE_XET="1",
                  HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1")

from huggingface_hub import errors, hf_hub_download, snapshot_download  # noqa: E402

snapshot_download("acme/whole")
hf_hub_download("acme/whole", "config.json", revision="refs/pr/1")
snapshot_download("acme/some", allow_patterns=["*Q4_K_M*"])
hf_hub_download("acme/one", "model.gguf")
snapshot_download("acme/pinned", revision=sys.stdin.readline().strip())
try:
    hf_hub_download("acme/one", "none.txt")
except errors.EntryNotFoundError:
    pass
