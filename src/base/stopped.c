/* stopped.c – the signal that asked the program to stop. It lies below the errors, which tell a call that it cut short from one
 * that failed. */
#include "base_private.h"

volatile sig_atomic_t ft_stopped_by;

int ft_stop_came(void)
{
    return ft_stopped_by;
}
