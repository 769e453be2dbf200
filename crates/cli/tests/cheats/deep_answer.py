def add(numbers):
    answer = []
    for _ in range(100000):
        answer = [answer]
    return answer
