"""Whether the account at the broker may do what kombu, Celery and this program do there."""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

#: The key that `worker.app.prove_broker_usable` writes.
PROBE = "screening-probe"

#: The commands on a queue, with arguments that Redis accepts.
ON_A_QUEUE = (("LPUSH", "0"), ("RPUSH", "0"), ("BRPOP", "1"), ("LINDEX", "-1"), ("LLEN",))

#: What kombu adds to the name of a queue for messages of a lower priority. There are none, but it looks there too.
LESS_URGENT = "\x06\x163"

#: Those on other keys: messages that were taken, the lock of who looks for lost ones, the names of the queues, a probe.
#: `tests/acceptance/test_production_shape.py` runs with these rights alone.
ON_OTHERS = (
    ("HSET", "unacked", "0", "0"), ("HGET", "unacked", "0"), ("HMGET", "unacked", "0"), ("HLEN", "unacked"),
    ("HDEL", "unacked", "0"), ("ZADD", "unacked_index", "0", "0"), ("ZREM", "unacked_index", "0"),
    ("ZRANGE", "unacked_index", "0", "0"), ("ZRANGEBYSCORE", "unacked_index", "0", "0"),
    ("SET", "unacked_mutex", "0"), ("GET", "unacked_mutex"), ("DEL", "unacked_mutex"),
    ("EVALSHA", "0", "1", "unacked_mutex"), ("SCRIPT", "LOAD", "0"), ("WATCH", "unacked"), ("UNWATCH",), ("PING",),
    ("SADD", "_kombu.binding.0", "0"), ("SADD", "_kombu.binding_permanent.0", "0"), ("SET", PROBE, "0"),
)  # fmt: skip

#: The keys of both tables as patterns of an access list, beside the queues, with an asterisk each.
KEYS = ("unacked*", "_kombu.binding*", PROBE)

#: Opens a transaction, after it has proved that one can be opened and ended.
OPENING = (("MULTI",), ("EXEC",), ("MULTI",))


def lacking_rights(client: Any, queues: Sequence[str]) -> list[str]:
    """The rules that the access list of the account lacks, as `ACL SETUSER` takes them; empty: none.

    `client`: one of redis-py. Nothing is done: Redis judges a command when it is queued in a transaction, which never
    ends. Raises redis-py's errors, also where Redis takes no transactions.
    """
    lists = [f"{queue}{end}" for queue in queues for end in ("", LESS_URGENT)]
    asked = [(name, each, *others) for each in lists for name, *others in ON_A_QUEUE]
    lacking = dict[str, None]()
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        for command in OPENING:  # answered one by one: a command behind a refused MULTI would be done
            connection.send_command(*command)
            if (error := _error(connection)) is None:
                continue
            if rules := _lacking(error, command, queues):
                return rules
            raise error
        probes: list[Sequence[str]] = [*asked, *ON_OTHERS]
        for probe in probes:
            connection.send_command(*probe)
        for probe in probes:
            if (error := _error(connection)) is not None:
                lacking.update(dict.fromkeys(_lacking(error, probe, queues)))
    finally:
        connection.disconnect()  # discards the transaction
        pool.release(connection)
    return list(lacking)


def _error(connection: Any) -> ResponseError | None:
    """The error that Redis answers, if it does."""
    try:
        connection.read_response()
    except ResponseError as error:
        return error
    return None


def _lacking(error: ResponseError, command: Sequence[str], queues: Sequence[str]) -> list[str]:
    """The rules that the account lacks for a command that was refused; none where something else was refused: the
    arguments, or the command in a transaction."""
    if not (isinstance(error, NoPermissionError) or "NOPERM" in str(error)):  # EXEC says so in words
        return []
    if "access" in str(error):
        return [*(f"~{queue}*" for queue in queues), *(f"~{key}" for key in KEYS)]
    return [f"+{command[0].lower()}"]
