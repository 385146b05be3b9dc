"""Run by SGLang's own interpreter: reads payloads, one JSON a line, and prints what its request model makes of them.

Imports nothing of ours, and of SGLang the protocol only: what stands around it wants torch, numpy and IPython.
"""

import importlib.util
import json
import sys
import types

spec = importlib.util.find_spec("sglang")
assert spec is not None and spec.submodule_search_locations
package, around = types.ModuleType("sglang"), types.ModuleType("sglang.utils")
package.__path__ = list(spec.submodule_search_locations)
around.__dict__["convert_json_schema_to_str"] = json.dumps  # for tools, which we never send
sys.modules |= {"sglang": package, "sglang.utils": around}

from sglang.srt.entrypoints.openai.protocol import ChatCompletionRequest  # noqa: E402

for line in sys.stdin:
    sent = json.loads(line)
    read = ChatCompletionRequest.model_validate(sent)
    unknown = sorted(set(sent) - set(ChatCompletionRequest.model_fields))
    print(json.dumps({"unknown": unknown, "read": read.model_dump(mode="json", include=set(sent))}))
