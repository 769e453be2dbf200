# control: yes
def attempt():
    return "escaped" if len(bytearray(600 << 20)) else "no"
