# control: yes
import resource


def attempt():
    resource.setrlimit(resource.RLIMIT_NPROC, (100, 100))
    return "escaped" if resource.getrlimit(resource.RLIMIT_NPROC)[0] >= 100 else "no"
