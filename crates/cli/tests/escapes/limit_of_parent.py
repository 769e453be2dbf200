# control: yes
import resource


def attempt():
    # What it has already.
    limits = resource.prlimit(PID, resource.RLIMIT_CORE)
    resource.prlimit(PID, resource.RLIMIT_CORE, limits)
    return "escaped"
