def add(numbers):
    answer = []
    answer.append(answer)
    return answer
