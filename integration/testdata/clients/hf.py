"""Fills and prunes a cache of huggingface_hub.

    hf.py ENDPOINT CACHE download REPO [REVISION [PATTERN]]
    hf.py ENDPOINT CACHE delete COMMIT...
"""

import os
import sys

endpoint, cache, what, *args = sys.argv[1:]
os.environ.update(HF_ENDPOINT=endpoint, HF_HUB_CACHE=cache, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1")

from huggingface_hub import scan_cache_dir, snapshot_download  # noqa: E402

if what == "download":
    repo, revision, pattern = (args + [None, None])[:3]
    print(snapshot_download(repo, revision=revision or None, allow_patterns=pattern))
else:
    scan_cache_dir(cache).delete_revisions(*args).execute()
