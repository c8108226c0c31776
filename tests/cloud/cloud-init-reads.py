"""Lets cloud-init itself take user-data apart and merge its cloud-configs.

Standard input: a JSON list of user-data in base64. Standard output: a JSON list with the merged
cloud-config of each, or null if cloud-init fails.
"""

import base64
import json
import logging
import sys

from cloudinit import handlers, helpers, user_data, util
from cloudinit.handlers.cloud_config import CloudConfigPartHandler

logging.disable(logging.CRITICAL)
# Nothing is asked for: addresses in the input are not followed.
user_data.UserDataProcessor._do_include = lambda *_: None


def merged(data):
    paths = helpers.Paths({})
    try:
        message = user_data.UserDataProcessor(paths).process(data)
    except Exception:
        return None
    handler = CloudConfigPartHandler(paths)
    types = handler.list_types()

    def take(_data, filename, payload, headers):
        kind = headers["Content-Type"]
        if kind in types:
            handler.handle_part(None, kind, filename, payload, None, headers)

    handler.handle_part(None, handlers.CONTENT_START, None, None, None, None)
    handlers.walk(message, take, None)
    return handler.cloud_buf or {}


print(json.dumps([merged(base64.b64decode(data)) for data in json.load(sys.stdin)], default=str))
