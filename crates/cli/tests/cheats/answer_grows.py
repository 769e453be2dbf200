def add(numbers):
    answer = [0]
    for _ in range(60):
        answer = [answer, answer]
    return answer
