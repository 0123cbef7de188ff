/* SPDX-License-Identifier: Apache-2.0
 *
 * rules.h - which flows a card is told to put on which queue.
 *
 * A card of several queues spreads packets by a hash, while an AF_XDP line receives from one.  Where the card has rules
 * (ntuple filters), mdbusd makes one for each (group, port) of a line when it lends it, and deletes them when it takes the line
 * back: the line's process, which may be killed at any time, is not relied on.
 *
 * What was made is written in the bus directory, in the flow that it is for: mdbus_flow_desc.rule is the rule's number in the
 * card plus one, or MDBUS_RULE_MAKING from before it is made until its number is known.  So no rule is lost, whoever is killed.
 */
#ifndef MDBUS_MGMT_RULES_H
#define MDBUS_MGMT_RULES_H

#include "daemon.h"

#define MDBUS_RULE_MAKING UINT32_MAX

/* Line h was lent: rule_add.  0, or -errno and why: then nothing is left, and the line is not to be lent. */
int mdbus_rules_add(struct mdbus_daemon *d, struct mdbus_holder *h, char *why, size_t size);

/*
 * rule_delete: what was made for line h.  Returns how many rules are gone; *left those that could not be deleted: they stay
 * written down, and the next call has another try.  Idempotent.
 */
uint32_t mdbus_rules_delete(const struct mdbus_daemon *d, struct mdbus_served *b, uint32_t line, uint32_t *left);

/*
 * Line h, which nobody holds, is about to be lent in network namespace `netns`, where its interface is meant from now on.  Rules in
 * another one that are still written down get a last try.
 */
void mdbus_rules_move(const struct mdbus_daemon *d, struct mdbus_holder *h, uint64_t netns);

/* All lines of a bus that goes away.  Says what is left. */
void mdbus_rules_delete_all(const struct mdbus_daemon *d, struct mdbus_served *b);

/* True if the configuration wants rules, or a card here can have them and is free to. */
bool mdbus_rules_wanted(const struct mdbus_daemon *d);

/* How each flow of each line that is held gets to it, and every rule of the lines' cards, also those that nobody here made. */
json_t *mdbus_rules_json(const struct mdbus_daemon *d, const char *bus);

#endif
