# control: yes
def attempt():
    return open("/etc/passwd").read() and "escaped"
