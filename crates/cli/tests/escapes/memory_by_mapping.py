# control: yes
import mmap


def attempt():
    return "escaped" if [mmap.mmap(-1, 200 << 20) for _ in range(3)] else "no"
