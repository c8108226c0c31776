# Compares values with goals. The first file has values: name, value. The second one has goals: name, bound, text.
# A bound is `<=` or `<`, and a number. It prints the goals whose values were measured.
BEGIN { OFS = "\t" }
FNR == NR { value[$1] = $2; next }
/^#/ || NF < 2 { next }
!($1 in value) { missing++; next }
!printed++ { printf "\n%-34s %12s  %-10s %s\n", "NAME", "VALUE", "GOAL", "RESULT" }
{
    split($2, bound, " ")
    number = bound[2] + 0
    met = bound[1] == "<=" ? value[$1] + 0 <= number : value[$1] + 0 < number
    if (value[$1] !~ /^-?[0-9.]+$/) met = 0
    printf "%-34s %12s  %-10s %s\n", $1, value[$1], $2, met ? "met" : "missed"
    all[met]++
}
END {
    if (printed) printf "%d met, %d missed, %d not measured\n", all[1], all[0], missing
}
