"""Where an error was raised, in a form that is safe to log."""


def place_of(error: BaseException) -> str:
    """Kind of an error and where it was raised, without its message, which may quote a header and name a patient."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    file = "" if trace is None else f" at {trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}"
    return type(error).__name__ + file
