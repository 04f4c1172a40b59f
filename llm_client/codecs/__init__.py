"""The wire protocols, a package each with its `Codec`; beside them what they have in common.

_transcript  _blocks         encodes transcripts, and keeps what it has encoded
_request  _turns  _names     what all requests are made of
_media  _schema              attachments, and schemas in the forms that vendors take
_reader                      reads answers, however they come; `_answer` says what a protocol adds
_http_errors  _usage  _json  refusals, counts and JSON as providers really send them
"""
