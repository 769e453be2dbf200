# control: yes
def attempt():
    return open("/proc/self/root/etc/passwd").read() and "escaped"
